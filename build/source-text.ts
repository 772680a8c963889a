/** Just enough reading of TypeScript for the import law: no parser, no dependency. */

export interface ImportStatement {
  readonly specifier: string;
  readonly typeOnly: boolean;
  /** From 1. */
  readonly line: number;
}

const statement =
  /(?<=^|[;}\s])(?:import|export)\s+(type\s+(?!from\b|,))?[\w*{}\s,$]*?from\s*(["'])([^"'\n]+)\2/gm;
const bareImport = /(?<=^|[;}\s])import\s*(["'])([^"'\n]+)\1/gm;
const callImport = /(?<![.\w$])(typeof\s+)?(?:import|require)\s*\(\s*(["'`])([^"'`\n]+)\2/g;

/** Every import and re-export of a source text, dynamic ones with a literal name included. */
export function importsOf(source: string): ImportStatement[] {
  const text = blankComments(source);
  const found = (specifier: string | undefined, typeOnly: boolean, index: number) => ({
    specifier: specifier ?? "",
    typeOnly,
    line: lineAt(text, index),
  });
  return [
    ...text.matchAll(statement).map((m) => found(m[3], m[1] !== undefined, m.index)),
    ...text.matchAll(bareImport).map((m) => found(m[2], false, m.index)),
    ...text.matchAll(callImport).map((m) => found(m[3], m[1] !== undefined, m.index)),
  ];
}

/** The text with comments, and where asked the insides of strings, replaced by spaces. */
export function blankComments(source: string, options: { strings?: boolean } = {}): string {
  // A string ends with its line, so that a quote in a regular expression spoils one line at most.
  const token =
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`(?:\\[\s\S]|[^`\\])*`/g;
  return source.replace(token, (match) => {
    if (match.startsWith("/")) return blank(match);
    if (!options.strings) return match;
    // What a template computes is code.
    return match.startsWith("`")
      ? match.replace(/(?<=^|\})[^{}]*?(?=\$\{|`$)/g, blank)
      : blank(match);
  });
}

export function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

function blank(text: string): string {
  return text.replace(/[^\n]/g, " ");
}
