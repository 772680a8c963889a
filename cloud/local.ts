import type { Clock } from "../agent/core/clock.ts";
import type { Component } from "../agent/core/component.ts";
import type { Logger } from "../agent/core/log.ts";
import type { Random } from "../agent/core/random.ts";
import { DatabaseStore, openLevel } from "../agent/store/store.ts";
import { AdminSocket } from "./admin/admin.ts";
import { type CloudSources, changeConfig, readChange } from "./config/config.ts";
import {
  Cloud,
  type CloudAddresses,
  type CloudOptions,
  type CloudStats,
  type Tap,
} from "./service/service.ts";
import { loadTokenKey } from "./tokens/tokens.ts";

export interface LocalCloudOptions {
  readonly service: CloudOptions;
  /** The folder of its database; made if it is not there. */
  readonly dataDir: string;
  /** Where `service` was read from; without it nothing can be added while it runs. */
  readonly sources?: CloudSources;
}

/** The service with its own store on disk: the store opens first and closes last. */
export class LocalCloud implements Component {
  readonly name = "local-cloud";
  readonly #store: DatabaseStore;
  readonly #cloud: Cloud;
  readonly #admin: AdminSocket | undefined;

  constructor(
    options: LocalCloudOptions,
    deps: {
      readonly clock: Clock;
      readonly random: Random;
      readonly log: Logger;
      readonly tap?: Tap;
    },
  ) {
    const { random, log } = deps;
    this.#store = new DatabaseStore(
      { dir: options.dataDir },
      { openDatabase: openLevel, random, log },
    );
    const wasRepaired = (): boolean => this.#store.salvage !== undefined;
    // Asked for when the store has made the folder.
    const tokenKey = (): Promise<Uint8Array> => loadTokenKey(options.dataDir, random);
    const more = { store: this.#store, wasRepaired, tokenKey };
    const cloud = new Cloud(options.service, { ...deps, ...more });
    this.#cloud = cloud;
    const { sources, dataDir: dir } = options;
    const handle = (request: unknown): unknown => {
      if (!sources) return undefined;
      const { added, directory } = changeConfig(sources, readChange(request));
      cloud.changeDirectory(directory);
      return { added };
    };
    this.#admin = sources && new AdminSocket({ dir }, { handle, log: log.child("admin") });
  }

  /** Throws `store_locked` when another process serves from this folder. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#store.start();
    try {
      await this.#cloud.start(signal);
      await this.#admin?.start();
    } catch (error) {
      await this.#store.stop();
      throw error;
    }
  }

  get ready(): CloudAddresses | undefined {
    return this.#cloud.ready;
  }

  get stats(): CloudStats {
    return this.#cloud.stats;
  }

  async stop(deadline: AbortSignal): Promise<void> {
    await this.#admin?.stop();
    await this.#cloud.stop(deadline);
    await this.#store.stop();
  }
}
