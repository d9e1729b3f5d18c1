-- Steps of a thred and their outboxes, latest first; none of one that is forgotten.
-- KEYS: threds, history. ARGV: thred, how many to leave out, limit.
-- The history is a list of threds, each followed by a step and its outbox.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return {}
end
local steps = {}
local places = redis.call('LPOS', KEYS[2], ARGV[1], 'RANK', -1 - ARGV[2], 'COUNT', ARGV[3])
for _, at in ipairs(places) do
  -- An id may be the text of something else.
  if at % 3 == 0 then
    steps[#steps + 1] = redis.call('LINDEX', KEYS[2], at + 1)
    steps[#steps + 1] = redis.call('LINDEX', KEYS[2], at + 2)
  end
end
return steps
