# Records of all instances.
nova-devcompat need list -f value -c instance | sort -u \
    | while read -r instance; do
        nova-devcompat need clear --yes -f value -c instance "$instance" | uniq
    done

# Our traits on compute nodes; all others stay.
openstack resource provider list -f value -c uuid | while read -r provider; do
    traits=$(openstack resource provider trait list -f value "$provider")
    others=$(grep -v '^CUSTOM_DEVCOMPAT_' <<< "$traits")
    if [ "$others" != "$traits" ]; then
        openstack resource provider trait set -f value \
            $(printf -- ' --trait %s' $others) "$provider" > /dev/null
    fi
done

# The traits themselves.
openstack trait list --name startswith:CUSTOM_DEVCOMPAT_ -f value \
    | while read -r trait; do openstack trait delete "$trait"; done
