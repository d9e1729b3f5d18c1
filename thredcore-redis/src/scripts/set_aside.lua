-- Has an outbox wait with those that are parked whole, where nobody asks for it.
-- KEYS: entries, entries of outboxes that are parked whole. ARGV: thred.
local lines = redis.call('HGET', KEYS[1], ARGV[1])
if lines then
  redis.call('HSET', KEYS[2], ARGV[1], lines)
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
