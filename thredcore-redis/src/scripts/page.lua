-- Records in the order of their threds' starts, behind a start and id; perhaps with some that are
-- not behind it.
-- KEYS: started, threds. ARGV: count, and, unless it is the first page, start and id.
local started, count, start, id = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local from = 0
if start then
  local score = redis.call('ZSCORE', started, id)
  if score and tonumber(score) == tonumber(start) then
    from = redis.call('ZRANK', started, id) + 1
  else
    -- It is gone. All of its start are given: Lua's order of texts depends on the locale.
    from = redis.call('ZCOUNT', started, '-inf', '(' .. start)
    count = count + redis.call('ZCOUNT', started, start, start)
  end
end
local ids = redis.call('ZRANGE', started, from, from + count - 1)
local found = {}
for _, id in ipairs(ids) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGET', KEYS[2], id) or ''
end
return found
