"""The steps of an alignment job that must not race, as Lua scripts for Redis."""

from __future__ import annotations

# KEYS: all, open, job.  ARGV: id, time, most open jobs, jobs kept, prefix of jobs, field, value, …
CREATE = """
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[3], unpack(ARGV, 6))
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, -tonumber(ARGV[4]) - 1)) do
  if not redis.call('ZSCORE', KEYS[2], old) then
    redis.call('ZREM', KEYS[1], old)
    redis.call('DEL', ARGV[5] .. old)
  end
end
return 1
"""

# KEYS: open.  ARGV: prefix of jobs, lease suffix, new token, lease in ms, most that run, attempts allowed, time.
# Gives the oldest job without a lease to the holder of the token; one that was cancelled or failed too often is ended.
CLAIM = """
local leased, free = 0, {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if redis.call('EXISTS', ARGV[1] .. id .. ARGV[2]) == 1 then leased = leased + 1 else table.insert(free, id) end
end
for _, id in ipairs(free) do
  local job = ARGV[1] .. id
  local ended = nil
  if redis.call('HGET', job, 'cancel') == '1' then
    ended = {'CANCELLED', ''}
  elseif tonumber(redis.call('HGET', job, 'attempts') or '0') >= tonumber(ARGV[6]) then
    ended = {'FAILED', 'The worker was lost ' .. ARGV[6] .. ' times, perhaps for want of memory. What it had computed'
      .. ' is kept: create the alignment again and it goes on.'}
  elseif leased < tonumber(ARGV[5]) then
    redis.call('HSET', job, 'token', ARGV[3], 'state', 'QUEUED', 'updated_at', ARGV[7])
    redis.call('HINCRBY', job, 'attempts', 1)
    redis.call('SET', job .. ARGV[2], ARGV[3], 'PX', ARGV[4])
    return id
  end
  if ended then
    redis.call('HSET', job, 'state', ended[1], 'error', ended[2], 'updated_at', ARGV[7])
    redis.call('ZREM', KEYS[1], id)
  end
end
return false
"""

# KEYS: job, lease, open.  ARGV: token, lease in ms (0 releases), state it must be in ('' any), id, field, value, …
# Whether the token still holds the job; then writes the fields, renews the lease, and closes the job when it has ended.
BEAT = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'lost' end
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'QUEUED' and state ~= 'RUNNING' then return 'lost' end
if ARGV[3] ~= '' and state ~= ARGV[3] then return 'busy' end
if #ARGV > 5 then redis.call('HSET', KEYS[1], unpack(ARGV, 5)) end
state = redis.call('HGET', KEYS[1], 'state')
if ARGV[2] == '0' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
if state ~= 'QUEUED' and state ~= 'RUNNING' then
  redis.call('ZREM', KEYS[3], ARGV[4])
  redis.call('DEL', KEYS[2])
end
if redis.call('HGET', KEYS[1], 'cancel') == '1' then return 'cancel' end
return 'held'
"""

# KEYS: job, open.  ARGV: id, time.  A queued job ends at once; a running one is asked to.
CANCEL = """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 0 end
if state == 'QUEUED' then
  redis.call('HSET', KEYS[1], 'state', 'CANCELLED', 'cancel', '1', 'token', '', 'updated_at', ARGV[2])
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif state == 'RUNNING' then
  redis.call('HSET', KEYS[1], 'cancel', '1', 'updated_at', ARGV[2])
end
return 1
"""

# KEYS: all.  ARGV: prefix of jobs.  State, number, state, number, …
COUNT = """
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
"""
