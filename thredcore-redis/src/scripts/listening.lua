-- Pattern and revision of each revision that threds listen in.
-- KEYS: listeners, whose members are pattern TAB revision TAB reaction TAB thred.
local found = {}
local from = '-'
while true do
  local member = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, 1)[1]
  if not member then
    return found
  end
  local pattern = string.match(member, '^[^\t]*\t%d+')
  found[#found + 1] = pattern
  -- A newline is what comes behind a TAB.
  from = '[' .. pattern .. '\n'
end
