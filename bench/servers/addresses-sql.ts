import pg from 'pg'
import { ready, setup } from '../harness/child.js'
import { loop } from '../harness/loop.js'

/* The addresses of a user, by SQL alone. */
const { users } = setup as { users: number }
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })
const text = `SELECT id, user_id, title, full_address, street, building, apartment, city, state, postal_code, country, is_default,
  created_at, updated_at FROM user_addresses WHERE user_id = $1 ORDER BY is_default DESC, created_at DESC, id DESC`

ready({}, (question: { connections: number, seconds: number }) => loop(question, () =>
  pool.query({ name: 'addresses', text, values: [1 + Math.floor(Math.random() * users)] })))
