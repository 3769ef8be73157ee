-- Read, at one moment, what changed since a position in the change stream.
-- KEYS: policies, stops, changes.
-- ARGV: position.
-- Returns nothing where the stream no longer knows the position; else the newest position, the stops (model, value, ...), and
-- the policies that were written or deleted (id, value or false, ...), each once.
local entries = redis.call('XRANGE', KEYS[3], ARGV[1], '+')
if #entries == 0 or entries[1][1] ~= ARGV[1] then return false end
local policies, seen = {}, {}
for index = 2, #entries do
  local fields = entries[index][2]
  for place = 1, #fields, 2 do
    local id = fields[place + 1]
    if fields[place] == 'id' and id ~= '' and not seen[id] then
      seen[id] = true
      policies[#policies + 1] = id
      policies[#policies + 1] = redis.call('HGET', KEYS[1], id)
    end
  end
end
return {entries[#entries][1], redis.call('HGETALL', KEYS[2]), policies}
