-- Reads the whole state of one key, atomically.
-- KEYS: the record, its sidecar. ARGV: the record's type, then the fields of a hash.
-- Returns: the type found, the sidecar or false, the expiry (ms; -1 never, -2 no
-- key), and the value or values, or false.
local kind = redis.call('TYPE', KEYS[1]).ok
local remembered = redis.pcall('GET', KEYS[2])
if type(remembered) ~= 'string' then
  remembered = false
end
local expires = redis.pcall('PEXPIRETIME', KEYS[1])
if type(expires) ~= 'number' then -- before Redis 7
  expires = redis.call('PTTL', KEYS[1])
  if expires >= 0 then
    local clock = redis.call('TIME')
    expires = clock[1] * 1000 + math.floor(clock[2] / 1000) + expires
  end
end
local value = false
if kind == ARGV[1] then
  if kind == 'hash' then
    value = redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
  else
    value = redis.call('GET', KEYS[1])
  end
end
return {kind, remembered, expires, value}
