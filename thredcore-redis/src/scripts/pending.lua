-- Outboxes with entries made before a time that are not parked, oldest first, as thred, lines of entries,
-- outbox.
-- KEYS: outboxes, entries, pending. ARGV: time, limit.
local pending = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])) do
  pending[#pending + 1] = id
  pending[#pending + 1] = redis.call('HGET', KEYS[2], id) or ''
  pending[#pending + 1] = redis.call('HGET', KEYS[1], id) or ''
end
return pending
