/** What the harness gave this process to work with. */
export const setup = JSON.parse(process.argv[2] ?? '{}') as unknown

/** Tells the harness that this process is ready, and answers its questions; without a harness this process ends. */
export function ready<Question> (hello: object, answer: (question: Question) => Promise<object> | object = () => ({})) {
  process.on('disconnect', () => process.exit())
  process.on('message', async (question: Question) => { process.send?.(await answer(question)) })
  process.send?.(hello)
}
