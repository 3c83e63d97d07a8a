# What every file of this recipe does: it leaves a marker wherever it can, shows the environment, and reads the host.
for place in / /tmp /var/tmp /dev/shm /root /home /usr /usr/local/bin /etc /recipe /recipe/tests /work /about /run; do
    (echo hostile >"$place/harness-hostile-marker") 2>/dev/null && echo "marker in $place"
done
echo "environment: $(env | cut -d= -f1 | sort | tr '\n' ' ')"
for file in /etc/shadow /etc/hostname /proc/1/environ /var/run/docker.sock "$HOME/.ssh" /root/.cargo /root/.rustup; do
    [ -e "$file" ] && echo "there is $file"
done
for address in 127.0.0.1:22 169.254.169.254:80 192.0.2.1:443; do
    curl -sS -m 10 -o /dev/null "http://$address/" 2>/dev/null && echo "reached $address"
done
printf 'canary: %s\n' "$(cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -c HOST_CANARY)"
(setsid sleep 8642097531 >/dev/null 2>&1 &)
