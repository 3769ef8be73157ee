-- Add an alignment job; 0 when too many are open. The oldest ended jobs beyond those kept go.
-- KEYS: all, open, job.  ARGV: id, time, most open jobs, jobs kept, prefix of jobs, field, value, …
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
