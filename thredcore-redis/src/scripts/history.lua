-- The last steps of a thred, latest first: its record names the last one, each the one before.
-- KEYS: threds, history. ARGV: thred, limit.
local record = redis.call('HGET', KEYS[1], ARGV[1])
local step = record and string.match(record, '^%d+\t%a\t([%d-]*)\t') or ''
local steps = {}
while step ~= '' and #steps < tonumber(ARGV[2]) do
  local entry = redis.call('XRANGE', KEYS[2], step, step)[1]
  if not entry then
    break
  end
  -- Its fields are `p`, the step before, and `s`, the step itself.
  steps[#steps + 1] = entry[2][4]
  step = entry[2][2]
end
return steps
