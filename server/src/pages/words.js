// What is written in the box for words, as parameters of a search and as what is marked.

/** Words and "quoted texts", each with the sign before it. */
function parts(text) {
  const found = [];
  for (const [, sign, quoted, bare] of text.matchAll(/(?:^|\s)([-?]?)(?:"([^"]*)"?|(\S+))/g)) {
    const word = quoted ?? bare;
    if (word) found.push([sign, word]);
  }
  return found;
}

/** Parameters: a regular expression is one, whatever blanks are in it. */
export function read(text, match) {
  if (!text) return [];
  if (match === "regex") return [["must", text]];
  return parts(text).map(([sign, word]) => [sign === "-" ? "must_not" : sign === "?" ? "should" : "must", word]);
}

/** Finds what was looked for in a line; `null` if nothing is to be marked. */
export function matcher(text, match, isExact) {
  const flags = isExact ? "gu" : "giu";
  try {
    if (!text.trim()) return null;
    if (match === "regex") return new RegExp(text.trim(), flags);
    const words = parts(text).filter(([sign]) => sign !== "-").map(([, word]) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    if (!words.length) return null;
    // The longest first: of two that begin alike it is the one that is there.
    const any = words.sort((a, b) => b.length - a.length).join("|");
    return new RegExp(match === "words" ? `(?<![\\p{L}\\p{N}_])(?:${any})(?![\\p{L}\\p{N}_])` : any, flags);
  } catch { return null; }
}
