/** Of the outbox on the rig: small, so that a duplicate too many shows. */
export const WINDOW = 64;
export const SETTLE_EVERY = 256;
