-- State, number, state, number, …
-- KEYS: all.  ARGV: prefix of jobs.
local counts, flat = {}, {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local state = redis.call('HGET', ARGV[1] .. id, 'state')
  if state then counts[state] = (counts[state] or 0) + 1 end
end
for state, count in pairs(counts) do
  table.insert(flat, state)
  table.insert(flat, count)
end
return flat
