-- Forgets ended threds that have nothing left to publish.
-- KEYS: threds, entries, ended, places, counts, participants. ARGV: threds.
local call, match = redis.call, string.match
local records = call('HMGET', KEYS[1], unpack(ARGV))
local busy = call('HMGET', KEYS[2], unpack(ARGV))
for at, id in ipairs(ARGV) do
  local start, place, participants
  if records[at] and not busy[at] then
    start, place, participants = match(records[at], '^%d+\t[^\t\n]*\t(%x+)\t([^\n]*\tt)\na([^\n]*)\n')
  end
  if not records[at] then
    call('ZREM', KEYS[3], id)
  elseif place then
    call('HDEL', KEYS[1], id)
    call('ZREM', KEYS[3], id)
    call('ZREM', KEYS[4], place .. '\t' .. start .. '\t' .. id)
    if call('HINCRBY', KEYS[5], place, -1) <= 0 then
      call('HDEL', KEYS[5], place)
    end
    for name in string.gmatch(participants, '\t([^\t]*)') do
      call('ZREM', KEYS[6], name .. '\t' .. start .. '\t' .. id)
    end
  end
end
return 0
