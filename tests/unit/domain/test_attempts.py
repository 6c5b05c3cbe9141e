"""Attempts: wrong passwords are few, of one account and from one address; right ones are free."""

import pytest

from adapter_registry.domain.errors import StoreBusy, TooMany, Unauthorised
from adapter_registry.domain.people.attempts import MOST, OF_ACCOUNT, OF_ADDRESS, Attempts, network_of

HOME = "198.51.100.7"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def attempts(clock):
    return Attempts(clock)


def wrong(attempts: Attempts, account: str, address: str = HOME) -> None:
    with pytest.raises(Unauthorised), attempts.counted(account, address):
        raise Unauthorised


def test_an_address_is_told_to_wait_however_many_accounts_it_tries(attempts, clock):
    for number in range(OF_ADDRESS[0]):
        wrong(attempts, f"account-{number}")
    with pytest.raises(TooMany, match="Wait 20 s") as refused, attempts.counted("another", HOME):
        pass
    assert refused.value.wait_seconds == 20
    clock.now = 20
    wrong(attempts, "another")


def test_an_account_is_guarded_however_many_addresses_try_it(attempts):
    for number in range(OF_ACCOUNT[0]):
        wrong(attempts, "ann", f"203.0.113.{number}")
    with pytest.raises(TooMany), attempts.counted("ann", HOME):
        pass
    wrong(attempts, "bob")


def test_one_address_alone_keeps_nobody_out(attempts, clock):
    for second in range(3600):
        clock.now = second
        try:
            with attempts.counted("ann", "203.0.113.1"):
                raise Unauthorised
        except (Unauthorised, TooMany):
            pass
    with attempts.counted("ann", HOME):
        pass


@pytest.mark.parametrize("otherwise", [None, StoreBusy("busy")])
def test_what_was_not_wrong_does_not_count(attempts, otherwise):
    for _ in range(10 * OF_ADDRESS[0]):
        try:
            with attempts.counted("ann", HOME):
                if otherwise:
                    raise otherwise
        except StoreBusy:
            pass
    wrong(attempts, "ann")


def test_a_household_of_ipv6_is_one_address():
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9%eth0") == "2001:db8:1:2::/64"
    assert network_of("::ffff:198.51.100.7") == "198.51.100.7"
    assert network_of("a socket") == "a socket"


def test_what_is_kept_is_bounded(attempts, clock):
    for number in range(MOST + 100):
        with attempts.counted(f"account-{number}", HOME):
            pass
    assert len(attempts._accounts) == MOST
