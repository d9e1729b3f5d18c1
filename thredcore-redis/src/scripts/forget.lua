-- Forgets ended threds that have nothing left to publish.
-- KEYS: threds, entries, ended, their starts. ARGV: threds.
local call = redis.call
local scores = call('ZMSCORE', KEYS[3], unpack(ARGV))
local busy = call('HMGET', KEYS[2], unpack(ARGV))
local gone, starts = {}, {}
for at, id in ipairs(ARGV) do
  if scores[at] and not busy[at] then
    local record = call('HGET', KEYS[1], id)
    gone[#gone + 1] = id
    local start = record and string.match(record, '^%d+\t[^\t\n]*\t(%x+)\t')
    if start then
      starts[#starts + 1] = start .. '\t' .. id
    end
  end
end
if #gone > 0 then
  call('HDEL', KEYS[1], unpack(gone))
  call('ZREM', KEYS[3], unpack(gone))
end
if #starts > 0 then
  call('ZREM', KEYS[4], unpack(starts))
end
return 0
