-- End a queued job at once; ask a running one to end. 0 when there is no such job.
-- KEYS: job, open.  ARGV: id, time.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 0 end
if state == 'QUEUED' then
  redis.call('HSET', KEYS[1], 'state', 'CANCELLED', 'cancel', '1', 'token', '', 'updated_at', ARGV[2])
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif state == 'RUNNING' then
  redis.call('HSET', KEYS[1], 'cancel', '1', 'updated_at', ARGV[2])
end
return 1
