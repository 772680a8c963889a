/*
 * A device as a user of the vendor's service writes it, with Paho for C. Written from the protocol's
 * paper alone. `device VERB [ARGS]`; where the service is and who this is comes from the environment.
 */
#include <MQTTClient.h>
#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PARENT "GW_DOWN"
#define WAIT_MS 20000
#define TEXT 8192

static const char *access_key, *secret, *instance, *client_id;

static const char *setting(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

static void fail(const char *what) {
  printf("failed %s\n", what);
  exit(1);
}

/* Base64 of HMAC-SHA1: 28 characters. */
static const char *sign(const char *text) {
  static char base64[64];
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  HMAC(EVP_sha1(), secret, (int)strlen(secret), (const unsigned char *)text, strlen(text), digest,
       &length);
  EVP_EncodeBlock((unsigned char *)base64, digest, (int)length);
  return base64;
}

static long long now_ms(void) {
  struct timeval now;
  gettimeofday(&now, NULL);
  return now.tv_sec * 1000LL + now.tv_usec / 1000;
}

static MQTTClient client;

static int connect_as(const char *url, const char *mode, const char *password) {
  char username[256];
  MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
  MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
  snprintf(username, sizeof username, "%s|%s|%s", mode, access_key, instance);
  if (MQTTClient_create(&client, url, client_id, MQTTCLIENT_PERSISTENCE_NONE, NULL) != 0)
    fail("create");
  options.keepAliveInterval = 90;
  options.cleansession = 0;
  options.MQTTVersion = MQTTVERSION_3_1_1;
  options.username = username;
  options.password = password;
  if (strncmp(url, "ssl:", 4) == 0 || strncmp(url, "wss:", 4) == 0) {
    tls.trustStore = setting("CA_FILE");
    tls.verify = 1;
    options.ssl = &tls;
  }
  int code = MQTTClient_connect(client, &options);
  printf("connack %d\n", code);
  return code == 0;
}

static const char *url_of(const char *scheme, const char *port, const char *path) {
  static char url[128];
  snprintf(url, sizeof url, "%s://127.0.0.1:%s%s", scheme, setting(port), path);
  return url;
}

static int connect_signed(const char *url) { return connect_as(url, "Signature", sign(client_id)); }

/* Returns once PUBACK is there. */
static void publish(const char *topic, const char *text) {
  MQTTClient_deliveryToken token;
  if (MQTTClient_publish(client, topic, (int)strlen(text), text, 1, 0, &token) != 0)
    fail("publish");
  if (MQTTClient_waitForCompletion(client, token, WAIT_MS) != 0) fail("PUBACK");
}

static void to_myself(const char *text) {
  char topic[256];
  snprintf(topic, sizeof topic, PARENT "/p2p/%s", client_id);
  publish(topic, text);
}

/* The payload of the next message as text; what came is printed with its topic and QoS. */
static const char *receive(const char *word) {
  static char text[TEXT];
  char *topic = NULL;
  int length = 0;
  MQTTClient_message *message = NULL;
  for (long long end = now_ms() + WAIT_MS; !message && now_ms() < end;) {
    MQTTClient_receive(client, &topic, &length, &message, 1000);
  }
  if (!message) fail("receive");
  snprintf(text, sizeof text, "%.*s", message->payloadlen, (char *)message->payload);
  if (strcmp(word, "message") == 0) printf("message %s %d %s\n", topic, message->qos, text);
  else printf("%s %s %d\n", word, topic, atoi(strstr(text, "\"code\":") + 7));
  MQTTClient_freeMessage(&message);
  MQTTClient_free(topic);
  return text;
}

static void end(void) {
  MQTTClient_disconnect(client, 1000);
  MQTTClient_destroy(&client);
}

static void url_encode(char *to, const char *from) {
  for (; *from; from++) {
    if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", *from))
      *to++ = *from;
    else to += sprintf(to, "%%%02X", (unsigned char)*from);
  }
  *to = 0;
}

/* GET by hand; the body is behind the first empty line. Returns the HTTP status. */
static int http_get(const char *path, const char *query, char *body) {
  static char request[2 * TEXT], answer[2 * TEXT];
  struct sockaddr_in address = {.sin_family = AF_INET};
  address.sin_port = htons((unsigned short)atoi(setting("HTTP_PORT")));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("HTTP");
  int length = snprintf(request, sizeof request,
                        "GET %s?%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path,
                        query);
  if (write(fd, request, (size_t)length) != length) fail("HTTP");
  size_t have = 0;
  for (ssize_t n; (n = read(fd, answer + have, sizeof answer - 1 - have)) > 0;) have += (size_t)n;
  close(fd);
  answer[have] = 0;
  char *start = strstr(answer, "\r\n\r\n");
  if (!start) fail("HTTP");
  snprintf(body, TEXT, "%s", start + 4);
  return atoi(answer + strlen("HTTP/1.1 "));
}

static int number_in(const char *json, const char *key) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\":", key);
  const char *at = strstr(json, quoted);
  if (!at) fail(key);
  return atoi(at + strlen(quoted));
}

static void status(const char *resource) {
  char text[TEXT], query[TEXT], encoded[TEXT], body[TEXT];
  long long at = now_ms();
  snprintf(text, sizeof text, "accessKey=%s&instanceId=%s&resource=%s&timestamp=%lld", access_key,
           instance, resource, at);
  url_encode(encoded, resource);
  int length = snprintf(query, sizeof query,
                        "accessKey=%s&instanceId=%s&resource=%s&timestamp=%lld&signature=",
                        access_key, instance, encoded, at);
  url_encode(query + length, sign(text));
  int http = http_get("/route/clientId/get", query, body);
  printf("status %d %d %d\n", http, number_in(body, "code"), number_in(body, "online"));
}

static void ask_about(const char *verb, const char *token) {
  char text[TEXT], query[TEXT], path[64], body[TEXT];
  snprintf(text, sizeof text, "token=%s", token);
  int length = snprintf(query, sizeof query, "accessKey=%s&token=", access_key);
  url_encode(query + length, token);
  strcat(query, "&signature=");
  url_encode(query + strlen(query), sign(text));
  snprintf(path, sizeof path, "/token/%s", verb);
  http_get(path, query, body);
  printf("%s %d\n", verb, number_in(body, "code"));
}

static void apply(char *token) {
  char text[TEXT], query[TEXT], body[TEXT];
  long long expires = now_ms() + 3600 * 1000LL;
  snprintf(text, sizeof text,
           "actions=R,W&expireTime=%lld&instanceId=%s&resources=" PARENT "/#&serviceName=mq",
           expires, instance);
  int length = snprintf(query, sizeof query,
                        "actions=R%%2CW&expireTime=%lld&instanceId=%s&resources=" PARENT
                        "%%2F%%23&serviceName=mq&proxyType=MQTT&accessKey=%s&signature=",
                        expires, instance, access_key);
  url_encode(query + length, sign(text));
  http_get("/token/apply", query, body);
  printf("apply %d\n", number_in(body, "code"));
  const char *at = strstr(body, "\"tokenData\":\"");
  if (!at || sscanf(at + strlen("\"tokenData\":\""), "%4095[^\"]", token) != 1) fail("tokenData");
}

static void with_token(void) {
  static char first[4096], fresh[4096], text[TEXT];
  apply(first);
  snprintf(text, sizeof text, "RW|%s", first);
  if (!connect_as(url_of("tcp", "MQTT_PORT", ""), "Token", text)) return;
  apply(fresh);
  snprintf(text, sizeof text, "{\"token\":\"%s\",\"type\":\"RW\"}", fresh);
  publish("$SYS/uploadToken", text);
  printf("uploaded\n");
  to_myself("with a token");
  receive("message");
  ask_about("query", fresh);
  ask_about("revoke", fresh);
  receive("notice");
  for (long long until = now_ms() + WAIT_MS; MQTTClient_isConnected(client);) {
    char *topic = NULL;
    int length = 0;
    MQTTClient_message *message = NULL;
    MQTTClient_receive(client, &topic, &length, &message, 200);
    if (now_ms() > until) fail("close");
  }
  printf("closed\n");
  ask_about("query", fresh);
}

static void hello(const char *url) {
  if (!connect_signed(url)) return;
  to_myself("hello myself");
  receive("message");
}

int main(int argc, char **argv) {
  access_key = setting("ACCESS_KEY");
  secret = setting("SECRET");
  instance = setting("INSTANCE");
  client_id = setting("CLIENT_ID");
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *verb = argc > 1 ? argv[1] : "";
  if (strcmp(verb, "status") == 0) return status(argv[2]), 0;
  if (strcmp(verb, "self") == 0) hello(url_of("tcp", "MQTT_PORT", ""));
  else if (strcmp(verb, "tls") == 0) hello(url_of("ssl", "MQTTS_PORT", ""));
  else if (strcmp(verb, "websocket") == 0) hello(url_of("ws", "WS_PORT", "/mqtt"));
  else if (strcmp(verb, "wss") == 0) hello(url_of("wss", "WSS_PORT", "/mqtt"));
  else if (strcmp(verb, "token") == 0) with_token();
  else if (strcmp(verb, "send") == 0 && connect_signed(url_of("tcp", "MQTT_PORT", ""))) {
    char topic[256];
    snprintf(topic, sizeof topic, PARENT "/p2p/%s", argv[2]);
    publish(topic, argv[3]);
    printf("puback\n");
  } else if (strcmp(verb, "receive") == 0 && connect_signed(url_of("tcp", "MQTT_PORT", ""))) {
    for (int i = atoi(argv[2]); i > 0; i--) receive("message");
  }
  end();
  return 0;
}
