/** The input of this process from the harness. */
export const setup = JSON.parse(process.argv[2] ?? '{}') as unknown

/** Reports to the harness that this process is ready, and answers its questions. Without a harness the process ends. */
export function ready<Question> (hello: object, answer: (question: Question) => Promise<object> | object = () => ({})) {
  process.on('disconnect', () => process.exit())
  process.on('message', async (question: Question) => { process.send?.(await answer(question)) })
  process.send?.(hello)
}
