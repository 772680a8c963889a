/** What somebody reads at night about a disk: what is wrong, what still works, what to do. */
import { describe, expect, test } from "vitest";
import { roomTrouble, storeTrouble, writeTrouble } from "../../../agent/wiring/store-trouble.ts";

const MB = 1_048_576;
const plenty = Number.POSITIVE_INFINITY;
const room = {
  usedBytes: 300 * MB,
  freeBytes: 1_000 * MB,
  overBytes: 20 * MB,
  overQuotaBytes: 20 * MB,
  short: true,
  shortFrom: 4,
};

describe("a disk that takes no writes", () => {
  test.each([
    ["failed", "ENOSPC", /full \(ENOSPC\): make room.*still sent.*by itself/],
    ["failed", "EIO", /errors \(EIO\).*kernel.*still sent/],
    ["failed", "EROFS", /read-only \(EROFS\).*still sent/],
    ["failed", undefined, /^The disk does not take writes\. What is stored is still sent/],
    ["absent", "EACCES", /may not be written \(EACCES\).*owner.*starts anew by itself/],
    ["absent", "EMFILE", /could not be opened at the start \(EMFILE\).*starts anew by itself/],
    ["read-only", undefined, /read-only.*Nothing that is stored can be sent/],
  ] as const)("%s for %s", (state, fault, words) => {
    expect(writeTrouble({ state, fault })).toMatch(words);
  });

  test("is worse than one without room", () => {
    const facts = { state: "failed", fault: "ENOSPC", room, shortFrom: 4 } as const;
    expect(storeTrouble(facts)).toMatch(/ENOSPC/);
  });
});

describe("a disk without room", () => {
  test("says who is refused, and the keys that hold it back", () => {
    expect(roomTrouble({ room, shortFrom: 4 })).toMatch(
      /state\.quota_mb.*state\.keep_free_mb.*300 MB used, 1000 MB free\. Lanes of priority 4 and/,
    );
    expect(roomTrouble({ room, shortFrom: 1 })).toMatch(
      /reserve for alarms and replies is used up/,
    );
  });

  test("with enough of it is no trouble", () => {
    expect(roomTrouble({ room, shortFrom: plenty })).toBeUndefined();
    expect(roomTrouble({ room: undefined, shortFrom: 4 })).toBeUndefined();
    const well = { state: "open", fault: undefined, room, shortFrom: plenty } as const;
    expect(storeTrouble(well)).toBeUndefined();
  });
});
