-- The last steps of a thred, latest first: its record names the last one, each the one before.
-- KEYS: threds, history. ARGV: thred, limit.
local record = redis.call('HGET', KEYS[1], ARGV[1])
local step = record and string.match(record, '^%d+\t%a\t(%d*)\t') or ''
local steps = {}
while step ~= '' and #steps < tonumber(ARGV[2]) do
  local value = redis.call('HGET', KEYS[2], step)
  if not value then
    break
  end
  local before, text = string.match(value, '^(%d*)\n(.*)$')
  steps[#steps + 1] = text
  step = before
end
return steps
