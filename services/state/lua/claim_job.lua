-- Give the oldest job without a lease to the holder of the token; end one that was cancelled or failed too often.
-- KEYS: open.
-- ARGV: prefix of jobs, lease suffix, new token, lease in ms, most that run, attempts allowed, time, error of a job
-- that used its attempts up.
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
    ended = {'FAILED', ARGV[8]}
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
