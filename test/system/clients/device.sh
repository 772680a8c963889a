#!/bin/bash
# A device as a user of the vendor's service makes it of mosquitto_pub, mosquitto_sub and openssl.
# Written from the protocol's paper alone. `device.sh VERB [ARGS]`; where the service is and who this
# is comes from the environment.
set -u
parent=GW_DOWN
wait_s=20

# Base64 of HMAC-SHA1 of the first argument.
sign() {
  printf '%s' "$1" | openssl dgst -sha1 -hmac "$SECRET" -binary | base64
}

# The options of a persistent connection as client id $1, in signature mode; the others besides.
as() {
  local id=$1
  shift
  set -- "$@" -i "$id" -P "$(sign "$id")"
  printf '%s\n' -h 127.0.0.1 -V mqttv311 -k 90 -q 1 -c -u "Signature|$ACCESS_KEY|$INSTANCE" "$@"
}

# The same in token mode, with token $2 for everything.
with_token() {
  printf '%s\n' -h 127.0.0.1 -p "$MQTT_PORT" -V mqttv311 -k 90 -q 1 -c -i "$1" \
    -u "Token|$ACCESS_KEY|$INSTANCE" -P "RW|$2"
}

# Publishes $2 to topic $1; the other arguments are options. Says what CONNACK said.
publish() {
  local topic=$1 text=$2 told
  shift 2
  if told=$(mosquitto_pub "$@" -t "$topic" -m "$text" 2>&1); then
    echo "connack 0"
    echo "puback"
  elif [[ $told == *"not authorised"* ]]; then
    echo "connack 5"
  else
    echo "failed $told"
  fi
}

# Prints the next $1 messages; mosquitto_sub must subscribe to something, P2P comes besides.
receive() {
  local count=$1
  shift
  mosquitto_sub "$@" -t "$parent/broadcast" -C "$count" -W "$wait_s" -F 'message %t %q %p'
}

encode() {
  local text=$1 i one
  for ((i = 0; i < ${#text}; i++)); do
    one=${text:i:1}
    case $one in
      [A-Za-z0-9._-]) printf '%s' "$one" ;;
      *) printf '%%%02X' "'$one" ;;
    esac
  done
}

# GET by hand: the status in $http, the body in $body.
http_get() {
  exec 3<>"/dev/tcp/127.0.0.1/$HTTP_PORT"
  printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$1" >&3
  local answer
  answer=$(tr -d '\r' <&3)
  exec 3>&-
  http=$(head -n 1 <<<"$answer" | cut -d ' ' -f 2)
  body=$(sed '1,/^$/d' <<<"$answer")
}

# A number or a text of the JSON in $body.
field() {
  sed -E "s/.*\"$1\":\"?([^,\"}]*).*/\1/" <<<"$body"
}

status() {
  local at signed
  at=$(date +%s%3N)
  signed="accessKey=$ACCESS_KEY&instanceId=$INSTANCE&resource=$1&timestamp=$at"
  http_get "/route/clientId/get?accessKey=$ACCESS_KEY&instanceId=$INSTANCE&resource=$(
    encode "$1"
  )&timestamp=$at&signature=$(encode "$(sign "$signed")")"
  echo "status $http $(field code) $(field online)"
}

apply() {
  local expires signed
  expires=$(($(date +%s%3N) + 3600 * 1000))
  signed="actions=R,W&expireTime=$expires&instanceId=$INSTANCE&resources=$parent/#&serviceName=mq"
  http_get "/token/apply?actions=R%2CW&expireTime=$expires&instanceId=$INSTANCE&resources=$(
    encode "$parent/#"
  )&serviceName=mq&proxyType=MQTT&accessKey=$ACCESS_KEY&signature=$(encode "$(sign "$signed")")"
  echo "apply $(field code)"
  token=$(field tokenData)
}

about() {
  http_get "/token/$1?accessKey=$ACCESS_KEY&token=$(encode "$2")&signature=$(
    encode "$(sign "token=$2")"
  )"
  echo "$1 $(field code)"
}

token() {
  local first fresh sub
  apply
  first=$token
  apply
  fresh=$token
  # mosquitto_pub makes a connection for each message: this one renews its own, and is gone.
  mapfile -t options < <(with_token "$CLIENT_ID-pub" "$first")
  publish '$SYS/uploadToken' "{\"token\":\"$fresh\",\"type\":\"RW\"}" "${options[@]}"
  mapfile -t options < <(with_token "$CLIENT_ID-pub" "$fresh")
  publish "$parent/p2p/$CLIENT_ID" "with a token" "${options[@]}"
  mapfile -t options < <(with_token "$CLIENT_ID" "$fresh")
  coproc sub { mosquitto_sub "${options[@]}" -t "$parent/broadcast" -F 'message %t %q %p' 2>&1; }
  read -r -t "$wait_s" line <&"${sub[0]}" && echo "$line"
  about query "$fresh"
  about revoke "$fresh"
  read -r -t "$wait_s" line <&"${sub[0]}"
  body=$line
  echo "notice $(cut -d ' ' -f 2 <<<"$line") $(field code)"
  # It connects again with the revoked token, and is refused.
  read -r -t "$wait_s" line <&"${sub[0]}"
  [[ $line == *"not authorised"* ]] && echo "closed"
  about query "$fresh"
}

hello() {
  mapfile -t options < <(as "$CLIENT_ID-pub" "$@")
  publish "$parent/p2p/$CLIENT_ID" "hello myself" "${options[@]}"
  mapfile -t options < <(as "$CLIENT_ID" "$@")
  receive 1 "${options[@]}" 2>/dev/null
}

tcp=(-p "$MQTT_PORT")
case $1 in
  self) hello "${tcp[@]}" ;;
  tls) hello -p "$MQTTS_PORT" --cafile "$CA_FILE" ;;
  send)
    mapfile -t options < <(as "$CLIENT_ID" "${tcp[@]}")
    publish "$parent/p2p/$2" "$3" "${options[@]}"
    ;;
  receive)
    mapfile -t options < <(as "$CLIENT_ID" "${tcp[@]}")
    receive "$2" "${options[@]}"
    ;;
  status) status "$2" ;;
  token) token ;;
esac
