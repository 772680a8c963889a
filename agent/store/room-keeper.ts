import { join } from "node:path";
import { describeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Random } from "../core/random.ts";
import { Ballast } from "./ballast.ts";
import { type FreeSpace, type Room, Space, type SpaceOptions } from "./space.ts";

export interface RoomOptions {
  readonly dir: string;
  /** Without it nothing is watched. */
  readonly space?: SpaceOptions | undefined;
  readonly ballastBytes: number;
}

export interface RoomDeps {
  readonly random: Random;
  readonly log: Logger;
  readonly freeSpace?: ((dir: string) => Promise<FreeSpace>) | undefined;
  /** Quota or floor are near; called after a look that found so. */
  readonly onCrowded: () => void;
  /** While there is a database whose room may be looked at. */
  readonly isWatched: () => boolean;
}

/** Room on the disk: what is looked at while all is well, and what is given up when it is full. */
export class RoomKeeper {
  readonly #options: RoomOptions;
  readonly #deps: RoomDeps;
  readonly #ballast: Ballast;
  readonly #space: Space | undefined;
  #looking: Promise<Room | undefined> | undefined;
  #lookAgain: Promise<Room | undefined> | undefined;

  constructor(options: RoomOptions, deps: RoomDeps) {
    const { dir, space, ballastBytes } = options;
    this.#options = options;
    this.#deps = deps;
    this.#ballast = new Ballast(join(dir, "ballast"), ballastBytes, deps.random);
    this.#space = space && new Space(dir, space, deps.freeSpace);
  }

  /** By the last look; undefined before the first. */
  get room(): Room | undefined {
    return this.#space?.room;
  }

  /** From which priority on new content is refused: quota or floor of free space are reached. */
  get shortFrom(): number {
    return this.#space?.shortFrom ?? Number.POSITIVE_INFINITY;
  }

  /** Measures what is used and free. Undefined: there is nothing to watch, or no answer. */
  look(): Promise<Room | undefined> {
    if (this.#looking === undefined) {
      this.#looking = this.#look().finally(() => {
        this.#looking = undefined;
      });
      return this.#looking;
    }
    // What is under way may have asked already; whoever comes meanwhile shares the next one.
    this.#lookAgain ??= this.#looking.then(() => {
      this.#lookAgain = undefined;
      return this.look();
    });
    return this.#lookAgain;
  }

  /** When no look is under way. */
  async idle(): Promise<void> {
    await this.#lookAgain;
    await this.#looking;
  }

  /** So many bytes were given to the database: looks when they are enough to change something. */
  wrote(bytes: number): void {
    if (!this.#space?.wrote(bytes) || this.#looking !== undefined) return;
    void this.look().then((room) => {
      if (room && room.overBytes > 0) this.#deps.onCrowded();
    });
  }

  /**
   * The next attempt must not spend the room of the ballast on ordinary content. A look says whether
   * the disk is full indeed: a fault that was over at once must not leave everybody waiting.
   */
  full(): void {
    this.#space?.refused();
    void this.look();
  }

  /** On a full disk: what exists for this moment goes, and nothing new is taken. */
  async give(removeAside: () => Promise<unknown>): Promise<void> {
    this.#space?.refused();
    await removeAside();
    await this.#ballast.release();
    this.#deps.log.warn("disk full: ballast deleted");
  }

  /** Makes the ballast again when there is room for it. Never throws. */
  async secure(): Promise<void> {
    const { log } = this.#deps;
    const room = this.#space?.room;
    if (await this.#ballast.present()) return;
    const spare = room ? room.freeBytes - (this.#options.space?.keepFreeBytes ?? 0) : 0;
    if (!room || room.short || spare < 2 * this.#ballast.bytes) return;
    await this.#ballast.make().then(
      () => log.info("ballast made again"),
      (error: unknown) => log.debug("no ballast", { error: describeError(error) }),
    );
  }

  async #look(): Promise<Room | undefined> {
    const { log, isWatched } = this.#deps;
    if (!isWatched()) return undefined;
    const before = this.#space?.room?.short;
    const spareBytes = (await this.#ballast.present()) ? this.#ballast.bytes : 0;
    const room = await this.#space?.look(spareBytes).catch((error: unknown) => {
      log.debug("no figures of the disk", { error: describeError(error) });
      return undefined;
    });
    if (room && room.short !== (before ?? false)) {
      const { usedBytes, freeBytes } = room;
      if (room.short) log.warn("no room for more", { usedBytes, freeBytes });
      else log.info("room again", { usedBytes, freeBytes });
    }
    return room;
  }
}
