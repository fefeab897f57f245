-- The tables of the chat. Moments are texts as 2024-01-01T12:00:00.000Z, so that they sort as they are.
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, name TEXT NOT NULL, salt BLOB NOT NULL, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS keys (hash BLOB PRIMARY KEY, user_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    hash BLOB PRIMARY KEY, user_id TEXT NOT NULL, issued_at REAL NOT NULL, expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS channels (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, description TEXT NOT NULL, created_by TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS members (
    id TEXT NOT NULL, channel_id TEXT NOT NULL, user_id TEXT NOT NULL, PRIMARY KEY (channel_id, user_id)
);
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, channel_id TEXT NOT NULL, user_id TEXT NOT NULL, parent_message_id TEXT,
    content TEXT NOT NULL, created_at TEXT NOT NULL UNIQUE, updated_at TEXT, deleted_at TEXT
);
CREATE INDEX IF NOT EXISTS messages_of ON messages (channel_id, created_at) WHERE parent_message_id IS NULL;
CREATE INDEX IF NOT EXISTS replies_to ON messages (parent_message_id, created_at);
CREATE TABLE IF NOT EXISTS reactions (
    message_id TEXT NOT NULL, emoji TEXT NOT NULL, user_id TEXT NOT NULL, UNIQUE (message_id, emoji, user_id)
);
CREATE TABLE IF NOT EXISTS reads (
    user_id TEXT NOT NULL, channel_id TEXT NOT NULL, read_at TEXT NOT NULL, PRIMARY KEY (user_id, channel_id)
);
