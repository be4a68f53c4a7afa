import { Type } from 'typebox'
import { OpenLanguage, OpenMarket } from '../http/market-schemas.js'

// Not among the components of the document: generators leave out what no path refers to, and then miss it.
const MessageSchema = Type.Object({
  id: Type.String({ description: 'Also in `webhook-id`. A repetition has the same.' }),
  to: Type.String({ description: 'The number in E.164.' }),
  text: Type.String({ description: 'The message as the person reads it, with its code.' }),
  market: OpenMarket('The market of the number.'),
  language: OpenLanguage('The language of the text.')
}, { title: 'Message' })

const header = (name: string, description: string, example: string) =>
  ({ name, in: 'header', required: true, description, schema: { type: 'string' }, example })

/** What SMS_WEBHOOK_URL receives, as an entry of `webhooks` of OpenAPI 3.1. */
export const messageWebhook = {
  post: {
    operationId: 'deliverMessage',
    summary: 'Deliver a message',
    tags: ['webhooks'],
    description: 'The service posts each message to `SMS_WEBHOOK_URL`. It signs the message with `SMS_WEBHOOK_SECRET`, as Standard ' +
      'Webhooks describes. After a connection error or a 5xx it tries once more with the same `webhook-id`. It follows no redirects.',
    parameters: [
      header('webhook-id', 'The id of the message: deliver each id once.', 'msg_2fZ1kJc0'),
      header('webhook-timestamp', 'Seconds since the epoch: refuse what is older than five minutes.', '1795411800'),
      header('webhook-signature', '`v1,` and the Base64 of HMAC-SHA256 over `id.timestamp.body`.',
        'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=')
    ],
    requestBody: {
      required: true,
      content: {
        'application/json': {
          schema: MessageSchema,
          example: { id: 'msg_2fZ1kJc0', to: '+996555123456', text: 'Marque: 483920', market: 'kg', language: 'ru' }
        }
      }
    },
    responses: {
      '2XX': { description: 'The message is accepted.' },
      default: { description: 'The message is refused: it will not arrive.' }
    }
  }
}
