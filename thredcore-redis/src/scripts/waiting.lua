-- The threds that wait under keys, those of each key sorted.
-- KEYS: waits. ARGV: the thred to begin after, or an empty text, limit; keys.
local found = {}
for at = 3, #ARGV do
  local key = ARGV[at]
  local from = ARGV[1] == '' and '[' .. key .. '\t' or '(' .. key .. '\t' .. ARGV[1]
  local members = redis.call('ZRANGEBYLEX', KEYS[1], from, '(' .. key .. '\n', 'LIMIT', 0, ARGV[2])
  for _, member in ipairs(members) do
    found[#found + 1] = string.sub(member, #key + 2)
  end
end
return found
