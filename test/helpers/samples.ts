/** The samples of a text in the format of Prometheus, by their name and labels as written in the text. */
export const samples = (text: string) => new Map(text.split('\n').filter((line) => /^\w/.test(line))
  .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
