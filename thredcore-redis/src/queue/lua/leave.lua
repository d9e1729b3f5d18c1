-- Ends a consumer's membership; what it has is for the others to take over.
-- KEYS: alive. ARGV: token, channel of the consumers, label.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
