-- Notes how often items have been handed out.
-- KEYS: fence, attempts. ARGV: token, id, attempts, id, attempts…
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1
