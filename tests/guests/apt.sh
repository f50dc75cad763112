# To be sourced with $cache set: apt_setup, Debian 12's archive for one architecture in a private apt state below
# $cache,
# so that neither root nor a change of the system's architecture list is needed.
mirror=${TRANSVISOR_MIRROR:-http://deb.debian.org/debian}
security=${TRANSVISOR_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Makes apt-get and apt-cache work on architecture $1 with a state of its own.
apt_ready=
apt_setup() {
    [ "$apt_ready" != "$1" ] || return 0
    apt=$cache/apt
    [ "$1" = i386 ] || apt=$cache/apt-$1
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/etc/sources.d" \
        "$apt/etc/apt.conf.d" "$apt/etc/preferences.d"
    : > "$apt/status"
    signed=
    [ ! -r $keyring ] || signed="[signed-by=$keyring] "
    {
        echo "deb ${signed}$mirror bookworm main"
        echo "deb ${signed}$mirror bookworm-updates main"
        echo "deb ${signed}$security bookworm-security main"
    } > "$apt/etc/sources.list"
    # Only what leads to the network is taken from the system's settings: a proxy.
    {
        echo "Dir::State \"$apt\";"
        echo "Dir::State::Lists \"$apt/lists\";"
        echo "Dir::State::status \"$apt/status\";"
        echo "Dir::Cache \"$apt/cache\";"
        echo "Dir::Etc::SourceList \"$apt/etc/sources.list\";"
        echo "Dir::Etc::SourceParts \"$apt/etc/sources.d\";"
        echo "Dir::Etc::PreferencesParts \"$apt/etc/preferences.d\";"
        echo "APT::Architecture \"$1\";"
        echo "APT::Architectures { \"$1\"; };"
        echo 'APT::Get::List-Cleanup "false";'
        echo 'APT::Sandbox::User "";'
        echo 'Acquire::Languages "none";'
        echo 'Acquire::Retries "3";'
    } > "$apt/apt.conf"
    APT_CONFIG=$apt/apt.conf
    export APT_CONFIG
    apt-get -q update >"$apt/update.log" 2>&1 ||
        echo "apt-get update was not wholly successful (see $apt/update.log); going on" >&2
    apt_ready=$1
}
