-- Records, and outboxes with the lines of their entries, as of one moment.
-- KEYS: threds, outboxes, entries. ARGV: threds.
local records = redis.call('HMGET', KEYS[1], unpack(ARGV))
local outboxes = {}
local entries = redis.call('HMGET', KEYS[3], unpack(ARGV))
for at, lines in ipairs(entries) do
  if lines then
    outboxes[#outboxes + 1] = at - 1
    outboxes[#outboxes + 1] = lines
    outboxes[#outboxes + 1] = redis.call('HGET', KEYS[2], ARGV[at]) or ''
  end
end
return { records, outboxes }
