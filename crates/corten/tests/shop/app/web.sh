# The schema that the database has is the page: asked for once, as the database is healthy before this starts.
set -e
schema=$(timeout 5 wget -q -O - http://database:5432/schema)
mkdir -p /tmp/www
echo "$STAGE: $schema" >/tmp/www/index.html
echo "serving $schema"
exec httpd -f -p 8080 -h /tmp/www
