-- Counts receipts of all partitions, and begins a generation when there are enough of them, or the last one
-- began long enough ago.
-- KEYS: generation. ARGV: how many more, now (ms), how many a generation has, how long it takes (ms).
-- Answers the generation's number.
local key, now = KEYS[1], tonumber(ARGV[2])
local since = tonumber(redis.call('HGET', key, 'since') or '')
if not since then
  redis.call('HSET', key, 'since', ARGV[2], 'number', 1, 'count', 0)
end
local count = redis.call('HINCRBY', key, 'count', ARGV[1])
if since and (count >= tonumber(ARGV[3]) or now - since >= tonumber(ARGV[4])) then
  redis.call('HSET', key, 'since', ARGV[2], 'count', 0)
  return redis.call('HINCRBY', key, 'number', 1)
end
return tonumber(redis.call('HGET', key, 'number'))
