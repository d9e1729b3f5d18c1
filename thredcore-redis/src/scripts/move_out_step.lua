-- Takes a step and its outbox out of the history, if it still is this one; its place stays.
-- KEYS: history, its index, numbers. ARGV: version TAB thred, step, outbox.
local all = tonumber(redis.call('HGET', KEYS[3], 'steps') or '0')
local first = all - redis.call('LLEN', KEYS[1]) / 3
local place = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
if place <= first then
  return 0
end
local at = 3 * (place - 1 - first)
local step = redis.call('LRANGE', KEYS[1], at, at + 2)
if step[1] ~= ARGV[1] or step[2] ~= ARGV[2] or step[3] ~= ARGV[3] then
  return 0
end
redis.call('LSET', KEYS[1], at + 1, '')
redis.call('LSET', KEYS[1], at + 2, '')
return 1
