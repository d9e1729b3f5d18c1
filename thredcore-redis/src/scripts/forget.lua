-- Forgets ended threds that have nothing left to publish.
-- KEYS: threds, outboxes, ended, their starts. ARGV: threds.
local call = redis.call
local ended, busy = call('ZMSCORE', KEYS[3], unpack(ARGV)), call('HMGET', KEYS[2], unpack(ARGV))
local gone, starts = {}, {}
for at, id in ipairs(ARGV) do
  if ended[at] and not busy[at] then
    gone[#gone + 1] = id
  end
end
if #gone == 0 then
  return 0
end
for at, record in ipairs(call('HMGET', KEYS[1], unpack(gone))) do
  local start = record and string.match(record, '^%d+\t[^\t\n]*\t(%x+)\t')
  if start then
    starts[#starts + 1] = start .. '\t' .. gone[at]
  end
end
call('HDEL', KEYS[1], unpack(gone))
call('ZREM', KEYS[3], unpack(gone))
if #starts > 0 then
  call('ZREM', KEYS[4], unpack(starts))
end
return 0
