import { randomBytes } from "node:crypto";
import type { Random } from "./random.ts";

export class SystemRandom implements Random {
  float(): number {
    return Math.random();
  }

  bytes(count: number): Uint8Array {
    return randomBytes(count);
  }
}
