// Reads lines from standard input, in place of a module that Deno would have to fetch; see drive.py.
export async function* readLines(reader) {
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(1 << 16);
  let parts = [];
  for (let count = await reader.read(chunk); count !== null; count = await reader.read(chunk)) {
    const pieces = decoder.decode(chunk.subarray(0, count), { stream: true }).split("\n");
    while (pieces.length > 1) {
      parts.push(pieces.shift());
      yield parts.join("");
      parts = [];
    }
    parts.push(pieces[0]);
  }
  if (parts.join("")) yield parts.join("");
}
