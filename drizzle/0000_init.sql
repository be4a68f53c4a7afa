-- A users table that is already there is left exactly as it is.
CREATE TABLE IF NOT EXISTS "users" (
	"id" serial PRIMARY KEY NOT NULL,
	"phone_number" varchar(20) NOT NULL,
	"full_name" varchar(255),
	"profile_image_url" varchar(500),
	"is_active" boolean DEFAULT true,
	"is_verified" boolean DEFAULT false,
	"last_login" timestamp,
	"market" varchar(10) DEFAULT 'kg',
	"language" varchar(10) DEFAULT 'ru',
	"country" varchar(100) DEFAULT 'Kyrgyzstan',
	"created_at" timestamp DEFAULT now(),
	"updated_at" timestamp DEFAULT now(),
	CONSTRAINT "users_phone_number_key" UNIQUE("phone_number")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "user_addresses" (
	"id" serial PRIMARY KEY NOT NULL,
	"user_id" integer NOT NULL CONSTRAINT "user_addresses_user_id_users_id_fk" REFERENCES "users"("id") ON DELETE CASCADE,
	"title" varchar(100) NOT NULL,
	"full_address" varchar(500) NOT NULL,
	"street" varchar(200),
	"building" varchar(50),
	"apartment" varchar(20),
	"city" varchar(100),
	"state" varchar(50),
	"postal_code" varchar(20),
	"country" varchar(100) NOT NULL,
	"is_default" boolean NOT NULL,
	"created_at" timestamp NOT NULL,
	"updated_at" timestamp NOT NULL
);
--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "user_addresses_user_id_idx" ON "user_addresses" USING btree ("user_id");
--> statement-breakpoint
CREATE UNIQUE INDEX IF NOT EXISTS "user_addresses_default_key" ON "user_addresses" USING btree ("user_id") WHERE "user_addresses"."is_default";
