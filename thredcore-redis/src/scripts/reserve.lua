-- Takes a place: 0 granted, 1 full, 2 too soon.
-- KEYS: taken, last. ARGV: thred, most places, interval, now.
local taken, last = KEYS[1], KEYS[2]
local most, interval, now = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('ZSCORE', taken, ARGV[1]) then
  return 0
end
if most > 0 and redis.call('ZCARD', taken) >= most then
  return 1
end
local before = redis.call('GET', last)
if interval > 0 and before and now < tonumber(before) + interval then
  return 2
end
redis.call('ZADD', taken, 0, ARGV[1])
if not before or tonumber(before) < now then
  redis.call('SET', last, ARGV[4])
end
return 0
