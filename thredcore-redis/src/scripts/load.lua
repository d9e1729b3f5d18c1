-- Records, and outboxes with the lines of their entries, as of one moment.
-- KEYS: threds, outboxes, entries, entries of outboxes that are parked whole. ARGV: threds.
local records = redis.call('HMGET', KEYS[1], unpack(ARGV))
local outboxes = {}
local entries = redis.call('HMGET', KEYS[3], unpack(ARGV))
local some_rest = redis.call('EXISTS', KEYS[4]) == 1
for at, id in ipairs(ARGV) do
  local lines = entries[at] or some_rest and redis.call('HGET', KEYS[4], id)
  if lines then
    outboxes[#outboxes + 1] = at - 1
    outboxes[#outboxes + 1] = lines
    outboxes[#outboxes + 1] = redis.call('HGET', KEYS[2], id) or ''
  end
end
return { records, outboxes }
