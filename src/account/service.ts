import { codeKeys } from '../auth/codes/code.js'
import type { CodeStore } from '../auth/codes/store.js'
import type { Database } from '../db/database.js'
import { Problem } from '../http/problems.js'
import type { Audit } from '../monitoring/audit.js'
import type { TestPhones } from '../auth/phone-input.js'
import type { CodeSecrets } from '../redis/code-secrets.js'
import type { UsersRepository } from '../users/repository.js'

interface AccountOptions { testPhones: TestPhones, secrets: CodeSecrets }

interface AccountPorts {
  db: Database
  users: UsersRepository
  codes: CodeStore
}

export type AccountService = ReturnType<typeof accountService>

/** Operations that span a whole account, free of HTTP. */
export function accountService ({ testPhones, secrets }: AccountOptions, { db, users, codes }: AccountPorts) {
  const keyOf = codeKeys(testPhones)
  const { current, previous } = secrets

  return {
    /**
     * Deletes a user, the user's addresses and the live code. If it throws, nothing has changed in PostgreSQL.
     * Throws invalid_token, account_in_use, unavailable.
     */
    async deleteAccount (userId: number, audit: Audit) {
      const phone = await db.inTurn(userId, async (tx) => {
        const user = await users.remove(tx, userId)
        if (!user) throw new Problem('invalid_token')
        for (const secret of previous === undefined ? [current] : [current, previous]) {
          await codes.deleteCode(keyOf(secret, user.phone))
        }
        return user.phone
      })
      audit('account_deleted', { userId, phone })
    }
  }
}
