-- The last steps of a thred and their outboxes, latest first; none of one that is forgotten.
-- KEYS: threds, history. ARGV: thred, limit.
-- The history is a list of threds, each followed by a step and its outbox.
local limit = tonumber(ARGV[2])
if limit == 0 or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return {}
end
local steps = {}
for _, at in ipairs(redis.call('LPOS', KEYS[2], ARGV[1], 'RANK', -1, 'COUNT', limit)) do
  -- An id may be the text of something else.
  if at % 3 == 0 then
    steps[#steps + 1] = redis.call('LINDEX', KEYS[2], at + 1)
    steps[#steps + 1] = redis.call('LINDEX', KEYS[2], at + 2)
  end
end
return steps
