"""The scripts that Redis runs: the only ones that change a lock.

A lock is a hash that expires: the token of its holder, its fencing token, the arrival of its
holder and that of the newest request that wants it. Each script may be run twice, because a
connection can break between a run and its answer.
"""

# Fencing tokens and arrivals are drawn from one counter. It also follows the clock of Redis, so
# that they grow even if the counter was lost, or a replica takes over that does not know the
# last ones. 2^53 microseconds, up to where Lua counts exactly, end in the year 2255.
ACQUIRE = """
local key, counter = KEYS[1], KEYS[2]
local token, upload_id, channel = ARGV[1], ARGV[2], ARGV[3]
local lease, arrival, takes_over = ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1'

local function text(number)
    return string.format('%.0f', number)
end

local function draw()
    local time = redis.call('TIME')
    local now, last = time[1] * 1000000 + time[2], redis.call('GET', counter) or 0
    local number = math.max(now, last + 1)
    redis.call('SET', counter, text(number))
    return number
end

local lock = redis.call('HMGET', key, 'token', 'fence', 'arrival', 'newest')
if lock[1] == token then
    redis.call('PEXPIRE', key, lease)
    return {tonumber(lock[2]), tonumber(lock[3]), 0}
end
if not lock[1] then
    local fence = draw()
    if arrival == 0 then
        arrival = fence
    end
    redis.call('HSET', key, 'token', token, 'fence', text(fence), 'arrival', text(arrival))
    redis.call('PEXPIRE', key, lease)
    return {fence, arrival, 0}
end
if takes_over then
    if arrival == 0 then
        arrival = draw()
    end
    redis.call('HSET', key, 'newest', text(math.max(arrival, lock[4] or 0)))
    if arrival > tonumber(lock[3]) then
        redis.call('PUBLISH', channel, 'asked ' .. upload_id)
    end
end
return {0, arrival, redis.call('PTTL', key)}
"""

RENEW = """
local lock = redis.call('HMGET', KEYS[1], 'token', 'arrival', 'newest')
if lock[1] ~= ARGV[1] then
    return {0, 0}
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if lock[3] and tonumber(lock[3]) > tonumber(lock[2]) then
    return {1, 1}
end
return {1, 0}
"""

RELEASE = """
local lock = redis.call('HMGET', KEYS[1], 'token', 'newest')
if lock[1] == ARGV[1] then
    redis.call('DEL', KEYS[1])
    if lock[2] then
        redis.call('PUBLISH', ARGV[3], 'freed ' .. ARGV[2])
    end
end
return {}
"""
