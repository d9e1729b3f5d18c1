-- The topics that entries are parked for, with how many and the oldest one's time.
-- KEYS: parked, parked topics.
local topics = redis.call('HGETALL', KEYS[2])
local found = {}
for at = 1, #topics, 2 do
  local topic = topics[at]
  local first = redis.call('ZRANGEBYLEX', KEYS[1], '[' .. topic .. '\t', '+', 'LIMIT', 0, 1)[1] or ''
  found[#found + 1] = topic
  found[#found + 1] = topics[at + 1]
  found[#found + 1] = string.match(string.sub(first, #topic + 2), '^%d+') or '0'
end
return found
