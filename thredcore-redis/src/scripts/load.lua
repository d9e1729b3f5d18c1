-- Records, and outboxes with the ids of their entries, as of one moment.
-- KEYS: threds, outboxes, unpublished. ARGV: threds.
local records = redis.call('HMGET', KEYS[1], unpack(ARGV))
local outboxes = {}
local heads = redis.call('HMGET', KEYS[3], unpack(ARGV))
for at, head in ipairs(heads) do
  if head then
    outboxes[#outboxes + 1] = at - 1
    outboxes[#outboxes + 1] = string.match(head, '^[^\n]*\n(.*)$')
    outboxes[#outboxes + 1] = redis.call('HGET', KEYS[2], ARGV[at])
  end
end
return { records, outboxes }
