-- Accounts of people, their sessions and tries, and what happened that concerns security (decision 0019).

-- `name` is typed to sign in and stands in the transfer log; `title` is who that is and does not.
-- A password is its argon2id text; the second factor's secret is sealed with a key outside the
-- database; codes and tokens are SHA-256 of random bits.
create table phusa.accounts (
  account bigint generated always as identity primary key,
  name text not null unique,
  title text not null,
  role text not null,
  agency text,
  made_by text not null,
  made_at timestamptz not null,
  password text,
  totp bytea,
  totp_step bigint not null default 0,
  recovery bytea[] not null default '{}',
  invitation bytea,
  invited_until timestamptz,
  locked_at timestamptz,
  locked_by text
);
create index accounts_agency on phusa.accounts (agency);

create table phusa.sessions (
  session bigint generated always as identity primary key,
  token bytea not null unique,
  account bigint not null references phusa.accounts,
  address text not null,
  began_at timestamptz not null,
  seen_at timestamptz not null
);
create index sessions_account on phusa.sessions (account);

-- Tries to sign in, by account as typed and by address; `free_at` is when the next one is listened to.
create table phusa.tries (
  subject text primary key,
  failures int not null,
  free_at timestamptz not null,
  told bool not null default false,
  last_at timestamptz not null
) with (fillfactor = 50);
create index tries_last on phusa.tries (last_at);
