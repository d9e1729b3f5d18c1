-- Outboxes with entries that are parked for a topic, those of the oldest such entry first, as thred,
-- lines of entries, outbox.
-- KEYS: outboxes, entries, parked. ARGV: topic, limit.
local topic, limit = ARGV[1], tonumber(ARGV[2])
local PAGE = 256
local seen, found, count = {}, {}, 0
local from = '[' .. topic .. '\t'
while count < limit do
  -- A newline is what comes behind a tab.
  local page = redis.call('ZRANGEBYLEX', KEYS[3], from, '(' .. topic .. '\n', 'LIMIT', 0, PAGE)
  for _, member in ipairs(page) do
    local id = string.match(string.sub(member, #topic + 2), '^%d+\t(.*)\t[^\t]*$')
    if id and not seen[id] and count < limit then
      seen[id] = true
      count = count + 1
      found[#found + 1] = id
      found[#found + 1] = redis.call('HGET', KEYS[2], id) or ''
      found[#found + 1] = redis.call('HGET', KEYS[1], id) or ''
    end
  end
  if #page < PAGE then
    break
  end
  from = '(' .. page[#page]
end
return found
