-- Adds records about events that moved no thred, each once.
-- KEYS: records, known. ARGV: records kept; then for each its name and its text.
local records, known = KEYS[1], KEYS[2]
for at = 2, #ARGV, 2 do
  local name = ARGV[at]
  if redis.call('HEXISTS', known, name) == 0 then
    local number = redis.call('HINCRBY', records, 'n', 1)
    redis.call('HSET', records, string.format('%.0f', number), name .. '\n' .. ARGV[at + 1])
    redis.call('HSET', known, name, 1)
    local gone = string.format('%.0f', number - tonumber(ARGV[1]))
    local old = redis.call('HGET', records, gone)
    if old then
      redis.call('HDEL', known, string.match(old, '^[^\n]*'))
      redis.call('HDEL', records, gone)
    end
  end
end
return 0
