-- Whether the token still holds the job; then write the fields, renew the lease, and close the job when it has ended.
-- KEYS: job, lease, open.  ARGV: token, lease in ms (0 releases), state it must be in ('' any), id, field, value, …
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
